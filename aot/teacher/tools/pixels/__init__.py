"""Tools that look at pixels with OpenCV: a card says how things look, and nothing about any clip."""
