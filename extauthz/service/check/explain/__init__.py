"""Why a request would pass or be refused: the steps of a check, told, with nothing charged."""
