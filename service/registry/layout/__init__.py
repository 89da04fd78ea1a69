"""OCI image layouts (image-spec, image-layout.md) as registries: `url: oci:/path`, docs/adr/0025."""
