"""False-positive reduction of lung nodule candidates from one axial patch: data, training, evaluation, export."""
