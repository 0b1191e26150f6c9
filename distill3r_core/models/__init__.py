"""The student: encoder, fusion, heads, and where its weights live."""
