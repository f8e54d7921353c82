"""The `faust` runtime: the topology on Apache Kafka, as many workers as there are partitions.

Faust brings the app, the agents, membership, assignment and supervision. Delivery, rows and commits are our own: whole
fetches of a partition go to one ordered task; a micro-batch is one Kafka transaction of emits, rows and position.
"""
