"""What lies under OUT, whole or not at all: files anywhere, who was first, markers and manifests, and what stages pass on."""
