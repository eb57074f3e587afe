"""How reelsight-mini is trained, measured and exported. Not part of the wheel."""
