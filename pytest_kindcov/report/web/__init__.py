"""The pages of the HTML report: text in, text out. `report/html.py` writes them."""
