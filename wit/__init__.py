"""wit: from a query list to a trained CLIP. The domain in plain Python; Beam is in `pipelines`, torch in `trainer`."""

__version__ = "0.6.0"
