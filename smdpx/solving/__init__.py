"""From an equation to states: diffrax terms, the fixed-step march, `solve`, and the checks of what users hand in."""
