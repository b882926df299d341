from __future__ import annotations

import json

import pytest
from pictures import done, encoded, scene, told


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("keep_original", [True, False])
def test_exif_on_request(kind: str, keep_original: bool) -> None:
    data = encoded(scene(), kind, exif=told())
    found = {
        fields: done(data, exif=fields, keep_original=keep_original, perceptual_hashes=False).exif
        for fields in ("none", "technical", "all")
    }
    everything, technical = json.loads(found["all"] or ""), json.loads(found["technical"] or "")
    assert found["none"] is None
    exposure = {} if kind == "TIFF" else {"ExposureTime": "0.5"}  # Pillow writes no directory but the first into a TIFF
    expected = {"Make": "Camera", "Model": "One", **exposure}
    assert {name: technical.pop(name, None) for name in expected} == expected
    assert set(technical) <= {"Orientation", "XResolution", "YResolution", "ResolutionUnit"}
    private = {"Artist", "DateTime", *({"DateTimeOriginal", "BodySerialNumber", "GPSLatitude"} if exposure else ())}
    assert private <= set(everything) and "MakerNote" not in everything
