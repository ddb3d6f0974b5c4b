"""What one does with a trained net: load it, and look at its feature maps."""
