"""How far a reconstruction has come: coverage, isotropy, resolution. Pure functions of arrays; no state but counts."""
