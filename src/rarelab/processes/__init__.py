"""The processes that one run trains on: started, grouped, followed."""
