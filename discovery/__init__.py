"""What people ask: search by what is in a picture, a pin's dots and its way through the stream, the HTTP API, the page.

A pin is answered from here once the indexer holds its record; its dots arrive over topic `dots`.
"""
