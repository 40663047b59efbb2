"""Single volumes to look at in the browser, with NiiVue."""
