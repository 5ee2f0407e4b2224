"""Next week's sales of 45 stores."""
