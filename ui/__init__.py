"""People to the engine: the console at /ui. What an operation means is the engine's business."""
