"""2D detectors of others, as ONNX files: what is in them, how they are fed and what their outputs say."""
