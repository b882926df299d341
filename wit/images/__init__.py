"""Pictures: reading the header (`headers.probe`), and making stored bytes and hashes of fetched bytes (`process.process`)."""
