"""How an input file becomes requests: bytes, then lines, then JSON, then what a request must be."""
