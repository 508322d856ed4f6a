"""Many slides: every one attempted, none done twice, failures set apart; on this machine or on a Ray cluster."""
