"""Pictures: what the header says (`headers.probe`), and from fetched bytes to stored bytes with hashes (`process.process`)."""
