"""Model classes that sections and keys belong to."""

OURS, GAN, STAGED = "ParagonModel", "ParagonGANModel", "ParagonStagedModel"
