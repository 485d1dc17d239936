"""Tables: rows in, requests out, and the answers beside the rows.

    kinds       a file becomes a `Table`: its form is found, then its rows are read
    text        CSV and TSV in any of the usual encodings
    workbook    XLSX
    columnar    Parquet (an extra)
    records     JSON Lines of records
    prompt      a template and a row become a message
    requests    rows become requests, or faults
    check       whether an answer is what was asked for, and what it says
    answered    the same table with the answers beside it

The engine knows requests; only this package knows rows.
"""
