//! Programs that the image writer disassembles.
#![no_main]

use erofs_format::SiteTable;
use image_fs::sites::{AnalyseOptions, analyse_with};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let table = analyse_with(data, AnalyseOptions { patch_tsc: true });
    for site in table.sites() {
        assert!(site.extent().end <= data.len() as u64, "a site lies in the file");
    }
    assert_eq!(SiteTable::from_bytes(&table.to_bytes()), Ok(table));
});
