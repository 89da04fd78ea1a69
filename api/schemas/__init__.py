"""marshmallow schemas: JSON and YAML to model values and back."""
