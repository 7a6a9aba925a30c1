//! What a registry sends before the layers: manifests, indexes, configurations, signatures,
//! challenges. The first byte says which.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 6 {
        0 => orlop_image::fuzz::manifest(bytes, ""),
        1 => orlop_image::fuzz::manifest(bytes, "application/vnd.oci.image.index.v1+json"),
        2 => orlop_image::fuzz::manifest(bytes, "application/vnd.oci.image.manifest.v1+json"),
        3 => orlop_image::fuzz::config(bytes),
        4 => orlop_image::fuzz::signatures(bytes),
        _ => orlop_image::fuzz::challenge(&String::from_utf8_lossy(bytes)),
    }
});
