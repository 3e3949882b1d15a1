"""The synthetic kitchen: its world, its stories, its pictures, and the data set made of them."""
