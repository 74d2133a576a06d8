"""The hospital's work. No department imports another; journeys and screens join them."""
