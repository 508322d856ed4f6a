"""Datalists, annotations and tiles: from files to training samples."""
