"""What it costs to read a model from object storage, beside other libraries: requests, bytes, seconds.

``python -m benchmarks.remote`` starts Ceph's gateway (see `tests.servers.ceph`), puts a proxy before it that
adds a latency to each request and counts, and runs every library in a process of its own.
"""
