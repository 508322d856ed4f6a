"""From segmented glomeruli to findings: entities and their measurements, features, lesions, clinical associations.

Nothing is imported here: each part needs other optional packages (`pip install -e '.[findings]'`).
"""
