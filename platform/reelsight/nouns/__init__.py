"""The nouns: frozen values that cross every boundary, and the Arrow schema beside them."""
