"""Files of this machine: read by map or pread, published whole or not at all."""
