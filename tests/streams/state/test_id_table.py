from hypothesis import given
from hypothesis import strategies as st

from streams.state.id_table import IdTable

ids = st.text(st.sampled_from("aé\0日"), min_size=1, max_size=5)


@given(st.lists(st.one_of(st.tuples(st.just("forget"), ids), st.tuples(st.just("add"), st.lists(ids)))))
def test_it_is_a_dict_that_numbers_its_keys(steps):
    table, rows, names = IdTable(), {}, []
    for step, argument in steps:
        if step == "add":
            for name in argument:
                if name not in rows:
                    rows[name] = len(names)
                    names.append(name)
            assert table.rows_of_texts(argument).tolist() == [rows[name] for name in argument]
        elif argument in rows:
            names[rows[argument]] = ""
            table.forget(rows.pop(argument))
    assert [table.text(row) for row in range(len(table))] == names
    assert [table.row_of(name) for name in ("aé", *rows)] == [rows.get("aé", -1), *rows.values()]
    assert table.n_live == len(rows)


def test_it_grows_and_leaves_nothing_of_the_forgotten():
    table = IdTable()
    names = [f"user-{k}" for k in range(10_000)]
    assert table.rows_of_texts(names).tolist() == list(range(10_000))
    for row in range(0, 10_000, 2):
        table.forget(row)
    table.rows_of_texts([f"later-{k}" for k in range(20_000)])

    assert [table.row_of(name) for name in names[:4]] == [-1, 1, -1, 3]
    assert b"user-4444" not in table.slab[0].tobytes()
