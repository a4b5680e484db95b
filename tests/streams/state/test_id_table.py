from hypothesis import given
from hypothesis import strategies as st

from streams.state.id_table import IdTable

ids = st.text(st.sampled_from("aé\0日"), min_size=1, max_size=5)


@given(st.lists(st.one_of(st.tuples(st.just("forget"), ids), st.tuples(st.just("add"), st.lists(ids)))))
def test_it_is_a_dict_that_numbers_its_keys(steps):
    table, rows, names, vacant = IdTable(), {}, [], []
    for step, argument in steps:
        if step == "add":
            for name in argument:
                if name not in rows:
                    rows[name] = vacant.pop() if vacant else len(names)
                    names[rows[name] :] = [name, *names[rows[name] + 1 :]]
            assert table.rows_of_texts(argument).tolist() == [rows[name] for name in argument]
        elif argument in rows:
            names[rows[argument]] = ""
            vacant.append(rows.pop(argument))
            table.forget(vacant[-1])
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


def test_ids_come_and_go_in_the_same_memory():
    table, size = IdTable(), 0
    for round_ in range(40):
        names = [f"{'long' * (k % 5)}-{round_}-{k}" for k in range(1_000)]
        rows = table.rows_of_texts(names)
        assert sorted(table.fresh.tolist()) == sorted(rows.tolist())
        assert [table.row_of(name) for name in names] == rows.tolist()
        assert [table.text(row) for row in rows] == names
        for row in rows[1:].tolist():
            table.forget(row)
        size = size or table.nbytes
    assert table.n_live == 40
    assert len(table) < 1_100
    assert table.nbytes < 3 * size
