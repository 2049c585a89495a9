//! Labels of data sets: tables, and MATLAB's files.

use std::io::Write;

use dog_iqa::evaluation::{CsvColumns, DataSet, LabelFile, Labels, Scores};
use fastrand::Rng;
use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::campaign::{Target, run};
use super::mutate::mutate;

const TABLE: &str = "name,mos,prompt,mos_quality\na.jpg,1.5,\"a, b\",2.5\nb/c.jpg,-3e2,x, y,4\n";

#[test]
fn hostile_label_tables() {
    run(&Target {
        name: "hostile_label_tables",
        cost: 5,
        generate: &|rng| {
            let mut bytes = TABLE.as_bytes().to_vec();
            mutate(rng, &mut bytes, b",\"\n\r\xEF\xBB\xBFNaNinf1e999;");
            bytes
        },
        check: &|bytes| {
            let file = [LabelFile { name: "labels.csv", bytes }];
            let columns = CsvColumns::default();
            let read = |set| Labels::read(set, &file, &columns);
            for labels in [read(DataSet::Csv), read(DataSet::Agiqa3k)].into_iter().flatten() {
                assert!(labels.labels.iter().all(|label| label.opinion.is_finite()));
            }
            drop(Labels::read_decisions(&file[0], &columns));
            let scores = Scores::from_csv("scores.csv", bytes);
            scores.is_ok_and(|scores| scores.scores.iter().all(|score| score.value.is_finite()))
        },
        memory_max: &|bytes| (1 << 20) + 256 * bytes.len() as u64,
    });
}

#[test]
fn hostile_mat_files() {
    let opinions = mat_file(&[array(6, [1, 2], "mos", &element(9, &doubles(&[1.5, 2.5])))]);
    run(&Target {
        name: "hostile_mat_files",
        cost: 1,
        generate: &|rng| {
            let mut bytes = names(rng);
            mutate(rng, &mut bytes, b"\x0E\0\0\0\xFF\xFF\xFF\x7F\x0F\0\0\0IM");
            bytes
        },
        check: &|bytes| {
            let files = [
                LabelFile { name: "names.mat", bytes },
                LabelFile { name: "mos.mat", bytes: &opinions },
            ];
            let labels = Labels::read(DataSet::Livec, &files, &CsvColumns::default());
            labels.is_ok_and(|labels| labels.labels.len() == 2)
        },
        // zlib compresses by at most 1032, and a cell takes more memory than its 8 bytes.
        memory_max: &|bytes| (1 << 20) + 16 * 1032 * bytes.len() as u64,
    });
}

/// Returns a file with two names in a cell array, compressed or not.
fn names(rng: &mut Rng) -> Vec<u8> {
    let text = |name: &str| {
        let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        array(4, [1, 5], "", &element(4, &units))
    };
    let cells = array(1, [2, 1], "names", &[text("a.jpg"), text("b.bmp")].concat());
    if rng.bool() {
        return mat_file(&[cells]);
    }
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&cells).unwrap();
    let compressed = zlib.finish().unwrap();
    let length = u32::try_from(compressed.len()).unwrap();
    mat_file(&[[&15_u32.to_le_bytes()[..], &length.to_le_bytes(), &compressed].concat()])
}

fn mat_file(elements: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"MATLAB 5.0 MAT-file".to_vec();
    bytes.resize(124, b' ');
    bytes.extend([0, 1, b'I', b'M']);
    bytes.extend(elements.concat());
    bytes
}

fn element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn array(class: u8, size: [i32; 2], name: &str, content: &[u8]) -> Vec<u8> {
    let mut data = element(6, &[class, 0, 0, 0, 0, 0, 0, 0]);
    data.extend(element(5, &size.map(i32::to_le_bytes).concat()));
    data.extend(element(1, name.as_bytes()));
    data.extend(content);
    element(14, &data)
}

fn doubles(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
