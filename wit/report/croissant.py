"""The published set as a Croissant 1.0 description (http://mlcommons.org/croissant/1.0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wit.images.formats import Format
from wit.store.manifests import File


def croissant(name: str, samples: int, tars: Sequence[File], formats: Sequence[Format]) -> dict[str, Any]:
    """croissant.json of the set of that name: its tars, and the `formats` of the pictures in them."""
    types, globs = [form.media_type for form in formats], [f"*.{form.extensions[0]}" for form in formats]
    files = [
        {
            "@type": "cr:FileObject",
            "@id": tar.name,
            "name": tar.name,
            "contentUrl": f"shards/{tar.name}",
            "encodingFormat": "application/x-tar",
            "sha256": tar.sha256,
            "contentSize": f"{tar.bytes} B",
        }
        for tar in tars
    ]
    pictures = {
        "@type": "cr:FileSet",
        "@id": "tars",
        "name": "tars",
        "containedIn": [{"@id": f["@id"]} for f in files],
        "encodingFormat": types if len(types) > 1 else types[0],
        "includes": globs if len(globs) > 1 else globs[0],
    }
    return {
        "@context": {
            "@vocab": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "sc": "https://schema.org/",
            "dct": "http://purl.org/dc/terms/",
            "conformsTo": "dct:conformsTo",
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{samples:,} image-text pairs in WebDataset shards, built by wit.",
        "distribution": [*files, pictures],
    }
