// HTTP for measuring: this process shares the machine with what it measures, and node's own client takes several times as
// much of the processor.
import { connect } from 'node:net';

/** A connection that is kept alive and asks one request at a time. */
export class Connection {
  static open(port) {
    const one = new Connection();
    one.received = '';
    one.socket = connect(port, '127.0.0.1').setNoDelay().setEncoding('latin1');
    one.socket.on('data', (text) => one.receive(text));
    one.socket.on('error', (error) => one.fail?.(error));
    one.socket.on('close', () => one.fail?.(new Error('the REST server has closed the connection')));
    return new Promise((resolve) => one.socket.once('connect', () => resolve(one)));
  }

  ask(request) {
    return new Promise((answer, fail) => {
      if (this.socket.destroyed) fail(new Error('the REST server has closed the connection'));
      Object.assign(this, { answer, fail });
      this.socket.write(request);
    });
  }

  receive(text) {
    this.received += text;
    const end = this.received.indexOf('\r\n\r\n');
    if (end < 0) return;
    const length = /\r\ncontent-length: (\d+)/i.exec(this.received.slice(0, end))?.[1];
    if (length === undefined) this.fail(new Error(`an answer without a length: ${this.received}`));
    if (this.received.length < end + 4 + Number(length)) return;
    const answer = { status: Number(this.received.slice(9, 12)), body: this.received.slice(end + 4) };
    this.received = '';
    this.answer(answer);
  }

  close() {
    this.fail = undefined;
    this.socket.destroy();
  }
}
