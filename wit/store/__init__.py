"""Everything that lies under OUT, each file whole or absent: files, claims, markers and manifests, tables between stages."""
