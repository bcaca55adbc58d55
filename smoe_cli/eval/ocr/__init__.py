"""Tasks that show an image and ask what is written in it."""
