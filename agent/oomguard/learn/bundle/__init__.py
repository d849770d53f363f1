"""From a recipe to a bundle with its card; the zoo's comparison; a bundle given other thresholds."""
