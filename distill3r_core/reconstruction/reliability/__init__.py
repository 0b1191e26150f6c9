"""How far a reconstruction can be trusted: checks of its maps, and the verdict on them."""
