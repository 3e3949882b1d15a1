"""The base and its adapters: looked over, loaded, published, and what a trained arm promises."""
