"""`paragon ui`: the upscaling command behind a page in the browser."""
