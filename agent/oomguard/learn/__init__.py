"""Off the device: from recordings and kills to a bundle. Nothing on the device imports this."""
