//! The text that a PC's display shows, read from its memory: what a guest without a serial console says.
//!
//! In text mode, VGA's memory at 0xb8000 holds cells, each a character (code page 437) and an attribute; 25 lines of 80 of
//! them are shown. There is room for eight screens of them: Linux scrolls by moving on to what is shown, and copies to the
//! beginning only when it has come to the end; what was printed before that stays behind the screen. Where it stands now is
//! in a register that cannot be read without disturbing the guest (its index is shared). The display's picture tells as
//! well: which of its cells are empty is compared with the memory.

use std::io::Cursor;

/// What is shown, and before it the lines that have been scrolled off its top and are still in memory; from the oldest on,
/// without the spaces at their ends. Lines above the 25 that are shown are there only where they hold text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextScreen(pub Vec<String>);

/// The memory of a display in text mode, as one look found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextMemory(Vec<Cell>);

type Cell = [u8; 2];

const COLUMNS: usize = 80;
const LINES: usize = 25;
/// Of a screen.
const CELLS: usize = COLUMNS * LINES;
/// Of the memory: 32 KiB.
const ALL: usize = 16 << 10;

/// What the monitor is asked: four cells of two bytes each in a word.
pub(super) const COMMAND: &str = "xp /4096gx 0xb8000";

/// Code page 437 from 0x80 on; below, it is ASCII but for the control characters.
const UPPER: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// What code page 437 shows for 0x01 to 0x1f.
const LOWER: &str = "☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";

impl TextMemory {
    /// The cells that the monitor printed; `None` where it printed something else.
    ///
    /// `00000000000b8000: 0x0769076507530720 …`: the first cell is the lowest two bytes, its character the lower.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut cells = Vec::with_capacity(ALL);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (_, values) = line.split_once(':')?;
            for value in values.split_ascii_whitespace() {
                let value = u64::from_str_radix(value.strip_prefix("0x")?, 16).ok()?;
                let bytes = value.to_le_bytes();
                cells.extend(bytes.chunks_exact(2).map(|cell| [cell[0], cell[1]]));
            }
        }
        (cells.len() == ALL).then_some(Self(cells))
    }

    /// Whether there is text behind the first screen: only a picture tells then what is shown.
    pub(super) fn is_scrolled(&self) -> bool {
        !self.0.iter().skip(CELLS).all(is_blank)
    }

    /// The text, where `picture` shows it; `None` where there is none: the display was never set up, or shows no text.
    pub(super) fn text(&self, picture: Option<&Picture>) -> Option<TextScreen> {
        let start = match picture {
            // Not scrolled, or no picture could be taken: then what was written last comes last.
            None => self.last_written(),
            Some(Picture::Text(empty)) => self.place_of(empty),
            Some(Picture::Graphics) => return None,
        };
        let shown = self.0.get(start..)?.get(..CELLS)?;
        if !is_text(shown) {
            return None;
        }
        let mut above = self.behind(start);
        above.extend(self.0.get(..start)?.chunks_exact(COLUMNS).map(line));
        above.retain(|line| !line.is_empty());
        above.extend(shown.chunks(COLUMNS).map(line));
        Some(TextScreen(above))
    }

    /// What is behind the screen: of the time before the last return to the beginning, without the lines that were copied there.
    fn behind(&self, start: usize) -> Vec<String> {
        let lines = |cells: &[Cell]| cells.chunks_exact(COLUMNS).map(line).collect::<Vec<_>>();
        let first = lines(&self.0[..CELLS]);
        let mut behind = lines(self.0.get(start + CELLS..).unwrap_or_default());
        let end = behind
            .iter()
            .rposition(|line| !line.is_empty())
            .map_or(0, |last| last + 1);
        behind.truncate(end);
        let copied = (0..=LINES.min(end))
            .rev()
            .find(|count| first.starts_with(&behind[end - count..]));
        behind.truncate(end - copied.unwrap_or(0));
        behind
    }

    /// The places at which a screen may begin: Linux moves by lines, a BIOS by pages of 4 KiB.
    fn places() -> impl Iterator<Item = usize> {
        let lines = (0..=ALL - CELLS).step_by(COLUMNS);
        lines.chain((1..8).map(|page| page * 2048))
    }

    /// Where the empty cells are those of the picture, but for a cursor and for what was printed between the two looks.
    fn place_of(&self, empty: &[bool]) -> usize {
        let differences = |start: &usize| {
            let shown = self.0.iter().skip(*start).take(CELLS);
            shown
                .zip(empty)
                .filter(|(cell, empty)| is_blank(cell) != **empty)
                .count()
        };
        Self::places().min_by_key(differences).unwrap_or(0)
    }

    fn last_written(&self) -> usize {
        let last = self.0.iter().rposition(|cell| !is_blank(cell)).unwrap_or(0);
        (last / COLUMNS + 1)
            .saturating_sub(LINES)
            .min((ALL - CELLS) / COLUMNS)
            * COLUMNS
    }
}

/// What a picture of the display tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Picture {
    /// Text mode: whether each cell is empty.
    Text(Vec<bool>),
    /// Another mode than that of 80 by 25 characters.
    Graphics,
}

impl Picture {
    /// Reads a PNG as QEMU makes it; `None` where it is none.
    pub(super) fn parse(png: &[u8]) -> Option<Self> {
        let mut decoder = png::Decoder::new(Cursor::new(png));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().ok()?;
        let (width, height) = reader.info().size();
        // Characters of 16 lines, 8 or 9 pixels wide.
        if !matches!(width, 640 | 720) || height != 400 {
            return Some(Self::Graphics);
        }
        let mut pixels = vec![0; reader.output_buffer_size()?];
        let frame = reader.next_frame(&mut pixels).ok()?;
        let depth = frame.color_type.samples();
        let (wide, high) = (width as usize / COLUMNS, height as usize / LINES);
        let row = |y: usize| {
            pixels
                .get(y * frame.line_size..)
                .and_then(|rest| rest.get(..frame.line_size))
        };
        let mut empty = Vec::with_capacity(CELLS);
        for line in 0..LINES {
            for column in 0..COLUMNS {
                let part = |y: usize| row(y)?.get(column * wide * depth..(column + 1) * wide * depth);
                let first = part(line * high).and_then(|part| part.get(..depth))?;
                let uniform = (line * high..(line + 1) * high)
                    .all(|y| part(y).is_some_and(|part| part.chunks(depth).all(|pixel| pixel == first)));
                empty.push(uniform);
            }
        }
        Some(Self::Text(empty))
    }
}

fn is_blank(cell: &Cell) -> bool {
    matches!(cell[0], 0 | b' ' | 0xff)
}

fn line(cells: &[Cell]) -> String {
    let line: String = cells.iter().map(|[byte, _]| character(*byte)).collect();
    line.trim_end_matches([' ', '\u{a0}']).to_owned()
}

fn character(byte: u8) -> char {
    let nth = |table: &str, index: u8| table.chars().nth(usize::from(index));
    match byte {
        0 => ' ',
        0x01..=0x1f => nth(LOWER, byte - 1).unwrap_or(' '),
        0x20..=0x7e => char::from(byte),
        0x7f => '⌂',
        0x80.. => nth(UPPER, byte - 0x80).unwrap_or(' '),
    }
}

/// Memory that was never written is all 0 or all ones, and the pixels of a picture are of every value. A screen of text
/// is written in few colours, and mostly in what can be read: letters, spaces and the lines of boxes.
fn is_text(cells: &[Cell]) -> bool {
    let same = cells.windows(2).all(|pair| pair[0] == pair[1]);
    let [byte, attribute] = cells.first().copied().unwrap_or_default();
    if same && (byte != b' ' || attribute == 0) {
        return false;
    }
    let mut attributes = [0usize; 256];
    let mut odd = 0;
    for [byte, attribute] in cells {
        attributes[usize::from(*attribute)] += 1;
        // Letters of other languages and box drawings are few on a screen; control codes fewer still.
        let readable = matches!(byte, 0 | 0x20..=0x7e | 0xb0..=0xdf);
        odd += usize::from(!readable);
    }
    let colours = attributes.iter().filter(|count| **count > 0).count();
    colours <= 16 && odd * 8 <= cells.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn printed(cells: &[Cell]) -> String {
        let lines = cells.chunks(8).enumerate().map(|(index, cells)| {
            let values: Vec<_> = cells
                .chunks(4)
                .map(|four| {
                    let word = four.iter().rev().fold(0u64, |word, cell| {
                        (word << 16) | u64::from(u16::from_le_bytes(*cell))
                    });
                    format!("0x{word:016x}")
                })
                .collect();
            format!("{:016x}: {}\r\n", 0xb8000 + index * 16, values.join(" "))
        });
        lines.collect()
    }

    /// A memory with these lines from a cell on, and nothing else in it.
    fn memory_of(start: usize, lines: &[&str]) -> TextMemory {
        let mut cells = vec![[b' ', 7]; ALL];
        for (row, line) in lines.iter().enumerate() {
            for (column, byte) in line.bytes().enumerate() {
                cells[start + row * COLUMNS + column][0] = byte;
            }
        }
        TextMemory(cells)
    }

    /// What a display shows of a memory from a cell on, with a cursor.
    fn picture_of(memory: &TextMemory, start: usize, cursor: usize) -> Picture {
        let mut picture = Vec::new();
        {
            let mut encoder = png::Encoder::new(&mut picture, 720, 400);
            encoder.set_color(png::ColorType::Rgb);
            let mut pixels = vec![0u8; 720 * 400 * 3];
            for cell in 0..CELLS {
                if !is_blank(&memory.0[start + cell]) || cell == cursor {
                    let (x, y) = (cell % COLUMNS * 9 + 3, cell / COLUMNS * 16 + 9);
                    pixels[(y * 720 + x) * 3] = 0xaa;
                }
            }
            encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        }
        Picture::parse(&picture).unwrap()
    }

    fn shown(lines: &TextScreen) -> Vec<&str> {
        let lines = lines.0.iter().map(String::as_str);
        lines.filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn a_screen_is_read() {
        let memory = memory_of(0, &["SeaBIOS (version 1.16.3)", "", "Booting from Hard Disk..."]);
        let read = TextMemory::parse(&printed(&memory.0)).unwrap();
        assert_eq!(read, memory);
        assert!(!read.is_scrolled());
        let TextScreen(lines) = read.text(None).unwrap();
        assert_eq!(lines.len(), 25);
        assert_eq!(
            lines[..4],
            ["SeaBIOS (version 1.16.3)", "", "Booting from Hard Disk...", ""]
        );
    }

    #[test]
    fn a_screen_that_has_scrolled_is_found_by_its_picture() {
        let said: Vec<String> = (0..60)
            .map(|n| format!("{} line {n}", "=".repeat(n * 7 % 50)))
            .collect();
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        let mut memory = memory_of(0, &said);
        assert!(memory.is_scrolled());
        let start = (60 - LINES) * COLUMNS;
        let read = memory.text(Some(&picture_of(&memory, start, 1999))).unwrap();
        assert_eq!(shown(&read), said);
        // Without a picture, what was written last is taken for the end.
        assert_eq!(memory.text(None), Some(read));
        // Linux has come to the end and begun anew, with a copy of the last lines: what was there is now behind.
        let begun: Vec<&str> = said[36..]
            .iter()
            .copied()
            .chain(["---[ end Kernel panic"])
            .collect();
        memory.0[..CELLS].clone_from_slice(&memory_of(0, &begun).0[..CELLS]);
        let read = memory.text(Some(&picture_of(&memory, 0, 1950))).unwrap();
        let whole: Vec<&str> = said[25..]
            .iter()
            .copied()
            .chain(["---[ end Kernel panic"])
            .collect();
        assert_eq!(shown(&read), whole);
        // A page of a BIOS.
        let memory = memory_of(2048, &["a page", "", "of a BIOS"]);
        let read = memory.text(Some(&picture_of(&memory, 2048, 0))).unwrap();
        assert_eq!(shown(&read), ["a page", "of a BIOS"]);
    }

    #[test]
    fn a_picture_that_is_no_text_shows_none() {
        let mut picture = Vec::new();
        let mut encoder = png::Encoder::new(&mut picture, 640, 480);
        encoder.set_color(png::ColorType::Rgb);
        let pixels = vec![0u8; 640 * 480 * 3];
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        let picture = Picture::parse(&picture).unwrap();
        assert_eq!(picture, Picture::Graphics);
        assert_eq!(memory_of(0, &["stale"]).text(Some(&picture)), None);
        assert_eq!(Picture::parse(b"P6"), None);
    }

    #[test]
    fn an_emptied_screen_is_text_and_an_unused_one_is_not() {
        let text = |cells: Vec<Cell>| TextMemory(cells).text(None);
        assert_eq!(
            memory_of(0, &[]).text(None),
            Some(TextScreen(vec![String::new(); 25]))
        );
        for cell in [[0, 0], [0xff, 0xff], [0, 7], [0xff, 0x07], [b'A', 7]] {
            assert_eq!(text(vec![cell; ALL]), None, "{cell:?}");
        }
        let picture = (0..ALL).map(|at| [(at * 7) as u8, (at * 13) as u8]).collect();
        assert_eq!(text(picture), None);
        let noise = (0..ALL).map(|at| [(at * 7) as u8, 7]).collect();
        assert_eq!(text(noise), None);
    }

    #[test]
    fn boxes_and_signs_come_out_as_they_look() {
        assert_eq!(UPPER.chars().count(), 128);
        assert_eq!(LOWER.chars().count(), 31);
        for (byte, shown) in [
            (0xc9, '╔'),
            (0xcd, '═'),
            (0xb3, '│'),
            (0xdb, '█'),
            (0xe1, 'ß'),
            (0x18, '↑'),
            (0x7f, '⌂'),
        ] {
            assert_eq!(character(byte), shown);
        }
    }

    #[test]
    fn other_answers_are_no_screen() {
        for text in [
            "",
            "Cannot access memory\r\n",
            "00000000000b8000: 0x07",
            "b8000: 0xzz 0x0720",
        ] {
            assert_eq!(TextMemory::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn cells_are_read_as_printed(values in prop::collection::vec(any::<[u8; 2]>(), 64)) {
            let cells: Vec<Cell> = values.iter().copied().cycle().take(ALL).collect();
            let memory = TextMemory::parse(&printed(&cells)).unwrap();
            prop_assert_eq!(&memory.0, &cells);
            for picture in [None, Some(Picture::Text(vec![true; CELLS])), Some(Picture::Text(vec![false; CELLS]))] {
                if let Some(TextScreen(lines)) = memory.text(picture.as_ref()) {
                    prop_assert!((25..=100).contains(&lines.len()));
                    prop_assert!(lines.iter().all(|line| !line.chars().any(char::is_control)));
                }
            }
        }

        #[test]
        fn printed_ascii_comes_back(lines in prop::collection::vec("[ -~]{0,80}", 1..25)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let read = memory_of(0, &lines).text(None);
            prop_assert!(read.is_some());
            for (line, read) in lines.iter().zip(read.unwrap().0) {
                prop_assert_eq!(line.trim_end(), read);
            }
        }

        #[test]
        fn no_text_is_a_panic(said in "\\PC{0,300}", png in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = TextMemory::parse(&said);
            let _ = Picture::parse(&png);
            let _ = Picture::parse(&[b"\x89PNG\r\n\x1a\n".as_slice(), &png].concat());
        }
    }
}
