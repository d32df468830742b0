"""Who emits: the pin, save, engagement and tag events, the publisher, and the edge to Kafka."""
