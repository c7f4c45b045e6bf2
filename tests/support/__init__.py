"""What several tests lean on: the replica, and a proxy that makes the network fail."""
