//! Every input that is kept, through the same functions as under libFuzzer.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use supabase_pat_fuzz::PROPERTIES;

#[test]
fn all_that_is_kept_has_the_properties() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut failed = Vec::new();
    for (name, property) in PROPERTIES {
        let inputs: Vec<_> = fs::read_dir(corpora.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!inputs.is_empty(), "{name} has no seeds");
        for path in inputs {
            let data = fs::read(&path).unwrap();
            if catch_unwind(|| property(&data)).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn each_corpus_and_each_binary_is_that_of_a_property() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names: Vec<&str> = PROPERTIES.iter().map(|(name, _)| *name).collect();
    for place in ["corpus", "targets"] {
        let mut found: Vec<String> = fs::read_dir(folder.join(place))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        found.sort();
        assert_eq!(found, names, "{place}");
    }
}
