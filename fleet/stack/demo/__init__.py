"""The demo: Merrow & Vale, who make kitchens in plants, store them in depots and sell them in shops."""
