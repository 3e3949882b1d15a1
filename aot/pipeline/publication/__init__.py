"""`aot publish`: a trained student with its papers in one folder, and what checks that nothing in it was changed."""
