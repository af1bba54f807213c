-- The choices of the variable `organization`.
SELECT name AS __text, id AS __value FROM organizations ORDER BY name
