"""What the pages take from the code, and the site's own few extensions."""
