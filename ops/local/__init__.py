"""The parts that run on one machine: broker, Triton and the supervisor of a local stack."""
